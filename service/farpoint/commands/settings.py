"""`farpoint settings`: the settings in force."""

import click

from farpoint.commands._setup import settings_and_log
from farpoint.console import print_json, print_table
from farpoint.settings import PREFIX, effective_settings, settings_table


@click.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON object, group by group.")
@click.option("--markdown", is_flag=True, help="The page docs/settings.md: all settings with their defaults.")
def settings(as_json: bool, markdown: bool) -> None:
    """Print the settings in force, secrets masked.

    They come from environment variables FARPOINT_<GROUP>__<NAME>, from the TOML file that FARPOINT_CONFIG names, or
    are defaults; the environment wins over the file.
    """
    if as_json and markdown:
        raise click.UsageError("--json and --markdown exclude each other")
    in_force = effective_settings(settings_and_log())
    if markdown:
        from farpoint.settings_doc import settings_markdown

        click.echo(settings_markdown(), nl=False)
    elif as_json:
        print_json(in_force)
    else:
        values = {
            f"{PREFIX}{group}__{name}".upper(): value
            for group, members in in_force.items()
            for name, value in members.items()
        }
        print_table(
            ("setting", "value", "meaning"),
            [(variable, values[variable], meaning) for variable, _, meaning in settings_table()],
        )
