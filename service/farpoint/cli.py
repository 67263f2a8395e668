"""The console script `farpoint`: one command a module, loaded when it is used, so that `--help` answers at once."""

import importlib
import sys

import click

from farpoint.errors import FarpointError, SettingsError

COMMANDS = {
    "demo": "The whole product on one machine, on real video.",
    "kafka": "Run genuine Apache Kafka in the foreground.",
    "topics": "Create or show the topics.",
    "worker": "Run the service: embed pictures, detect outliers.",
    "publish": "Publish pictures, videos and cameras.",
    "alerts": "Print outlier alerts.",
    "clusters": "Print the live clusters.",
    "dead-letters": "Look at dead letters, or send them back.",
    "models": "Bring models in, list them, show their cards.",
    "check": "Look at everything a deployment needs.",
    "settings": "Print the settings in force.",
}


class _LazyGroup(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in COMMANDS:
            return None
        name = cmd_name.replace("-", "_")
        command = getattr(importlib.import_module(f"farpoint.commands.{name}"), name)
        assert isinstance(command, click.Command)  # noqa: S101 -- our own table
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="farpoint")
def cli() -> None:
    """Pictures and vectors on Kafka in; what lies far from every centroid out, as alerts with their pictures.

    Settings are environment variables FARPOINT_<GROUP>__<NAME> or a TOML file named by FARPOINT_CONFIG; `farpoint
    settings` lists them. Start with `farpoint demo`.
    """


def main() -> None:
    """Run the command line; exits 0 (done), 1 (failed), 2 (bad usage or setting), 130 (Ctrl-C)."""
    try:
        result = cli.main(standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        sys.exit(130)
    except SettingsError as error:
        click.echo(f"farpoint: {error}", err=True)
        sys.exit(2)
    except FarpointError as error:
        click.echo(f"farpoint: {error}", err=True)
        sys.exit(1)
    except BrokenPipeError:  # `farpoint alerts | head`: the reader has had enough
        sys.stderr.close()
        sys.exit(0)
    sys.exit(result if isinstance(result, int) else 0)


if __name__ == "__main__":
    main()
