"""`farpoint check`: one look at everything a deployment needs."""

import click

from farpoint.commands._setup import settings_and_log
from farpoint.console import print_json, printable


@click.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON object with all checks.")
@click.pass_context
def check(ctx: click.Context, as_json: bool) -> None:
    """Look at everything a deployment needs; exit 1 when something is missing.

    Settings, Kafka, topics, the model and its files, the execution provider that its session really gets, the port of
    health and metrics. Each is looked at even when another is not as it should be.
    """
    settings = settings_and_log()
    # Imported here: `--help` answers without Kafka's client and ONNX Runtime.
    from farpoint.deployment_check import check_deployment

    findings = []
    for finding in check_deployment(settings):
        findings.append(finding)
        if not as_json:  # as they come: a broker that does not answer takes its time
            click.echo(printable(f"{'ok' if finding.ok else 'FAILED':<8}{finding.check}: {finding.message}"))
            if finding.remedy:
                click.echo(printable(f"{'':<8}-> {finding.remedy}"))
    failed = [finding.check for finding in findings if not finding.ok]
    if as_json:
        print_json(
            {
                "ok": not failed,
                "checks": [
                    {"check": found.check, "ok": found.ok, "message": found.message, "remedy": found.remedy}
                    for found in findings
                ],
            }
        )
    if failed:
        click.echo(f"farpoint: not as it should be: {', '.join(failed)}", err=True)
        ctx.exit(1)
