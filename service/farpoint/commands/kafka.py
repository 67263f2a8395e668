"""`farpoint kafka`: genuine Apache Kafka in the foreground."""

import signal
import sys
from pathlib import Path
from typing import Any

import click

from farpoint.log import configure_logging
from farpoint.settings import load_settings


@click.command()
@click.option(
    "--data-dir",
    type=click.Path(path_type=Path),
    metavar="D",
    help="Folder of the cluster; what is in it survives. Default: farpoint/kafka in $XDG_DATA_HOME or ~/.local/share, "
    "farpoint/kafka-3 there for three brokers.",
)
@click.option(
    "--port", type=click.IntRange(1, 65533), default=9092, show_default=True, help="Port of the first broker."
)
@click.option(
    "--brokers",
    type=click.Choice(["1", "3"]),
    default="1",
    show_default=True,
    help="3: a real cluster on PORT, PORT+1 and PORT+2, with three copies of everything, two of which must be in sync.",
)
@click.option(
    "--host",
    default="127.0.0.1",
    show_default=True,
    help="Address of this machine to listen on; clients are told the same. Anybody who reaches it can read and write.",
)
def kafka(data_dir: Path | None, port: int, brokers: str, host: str) -> None:
    """Run genuine Apache Kafka in the foreground, with no Docker and no Java of the system.

    Prints `kafka ready HOST:PORT[,HOST:PORT...]` once it serves. Ctrl-C or SIGTERM stops it; the topics and their
    records stay in the data folder, and Kafka's own logs are there too, as node-1/server.log. The first start downloads
    Kafka (43 MB), later ones need no network.
    """
    if host in ("0.0.0.0", "::", ""):  # noqa: S104 -- refused, not used
        raise click.BadParameter(
            "clients are told this address, so it must be one that they can reach", param_hint="--host"
        )
    configure_logging(load_settings().log)
    # Imported here: `--help` answers without them.
    from farpoint.local_kafka.launcher import KafkaLauncher, default_data_dir

    signal.signal(signal.SIGTERM, _exit_in_order)
    launcher = KafkaLauncher(data_dir or default_data_dir(int(brokers)), port=port, brokers=int(brokers), host=host)
    with launcher:
        click.echo(f"kafka ready {launcher.bootstrap_servers}")
        launcher.run()


def _exit_in_order(signum: int, frame: Any) -> None:
    del frame
    signal.signal(signum, signal.SIG_IGN)  # stopping has begun; asking again does not hurry it
    sys.exit(0)
