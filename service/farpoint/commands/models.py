"""`farpoint models`: bring a model of one's own in, list what is there, show a card."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from farpoint.commands._setup import settings_and_log
from farpoint.console import print_json, print_table, printable


@click.group()
def models() -> None:
    """Bring models in, list them, show their cards.

    They are kept in the folder FARPOINT_EMBEDDER__LIBRARY, one in a folder `name@revision`. Which one a worker uses
    says FARPOINT_EMBEDDER__MODEL.
    """


@models.command("import")
@click.argument("model", type=click.Path(path_type=Path, dir_okay=False))
@click.option(
    "--card",
    required=True,
    type=click.Path(path_type=Path, dir_okay=False),
    help="What the graph does not tell, as JSON: name, revision, and under `input` the normalisation of a graph that "
    "takes floats.",
)
@click.option(
    "--reference",
    "references",
    nargs=2,
    multiple=True,
    metavar="PICTURE VECTOR",
    type=click.Path(path_type=Path, dir_okay=False),
    help="A picture, and the embedding (.npy) that the original model gives it; may be repeated. The import fails "
    "where ours differs, and says what would match.",
)
@click.option("--json", "as_json", is_flag=True, help="The card and its folder, as one JSON object.")
def import_(model: Path, card: Path, references: tuple[tuple[Path, Path], ...], as_json: bool) -> None:
    """Check an ONNX file, write its card, and keep both.

    Looks at the operator set, the batch axis, the shapes, the units of the normalisation; runs it alone and in
    batches; compares it with references; notes what the canary picture's embedding is.
    """
    settings = settings_and_log()
    from farpoint.model_library import ModelLibrary

    stored = ModelLibrary(settings.embedder.library).bring_in(model, card, references)
    assert stored.card is not None  # noqa: S101 -- it was just written
    if as_json:
        print_json({"folder": str(stored.folder), "card": _card(stored.card)})
        return
    agreement = stored.card.files["fp32"].agreement
    compared = (
        f"cosine {agreement.min_cosine} or more to {agreement.pictures} references" if agreement else "no reference"
    )
    click.echo(f"{stored.card.id}: {stored.card.dimension} numbers a vector, opset {stored.card.opset}, {compared}")
    click.echo(f"export FARPOINT_EMBEDDER__MODEL={stored.folder}")


@models.command("list")
@click.option("--json", "as_json", is_flag=True, help="One JSON object per model and line.")
def list_(as_json: bool) -> None:
    """List the shipped model and those of the library."""
    settings = settings_and_log()
    from farpoint.model_library import ModelLibrary

    stored = ModelLibrary(settings.embedder.library).models()
    used = settings.embedder.model.resolve()
    if as_json:
        for model in stored:
            card = {"id": model.card.id, "dimension": model.card.dimension} if model.card else {"id": None}
            in_use = model.folder.resolve() == used
            print_json({**card, "folder": str(model.folder), "in_use": in_use, "problem": model.problem})
        return
    print_table(
        ["model", "dimension", "files", "in use", "folder"],
        [
            [
                model.card.id if model.card else f"damaged: {model.problem}",
                model.card.dimension if model.card else None,
                ", ".join(sorted(model.card.files)) if model.card else None,
                "yes" if model.folder.resolve() == used else "",
                model.folder,
            ]
            for model in stored
        ],
    )


@models.command()
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="The whole card, as one JSON object.")
def show(name: str, as_json: bool) -> None:
    """Show a model's card: NAME is a folder, `name@revision`, or a name."""
    settings = settings_and_log()
    from farpoint.errors import FarpointError
    from farpoint.model_library import ModelLibrary

    stored = ModelLibrary(settings.embedder.library).find(name)
    if stored.card is None:
        raise FarpointError(stored.problem or f"{stored.folder} is no model")
    card = _card(stored.card)
    if as_json:
        print_json({"folder": str(stored.folder), "card": card})
        return
    click.echo(printable(f"{stored.card.id} in {stored.folder}"))
    for line in _lines(card):
        click.echo(printable(line))


def _card(card: Any) -> dict[str, Any]:
    import msgspec

    plain: dict[str, Any] = msgspec.to_builtins(card)
    return plain


def _lines(value: Mapping[str, Any], indent: str = "") -> list[str]:
    lines = []
    for name, part in value.items():
        if isinstance(part, Mapping):
            lines += [f"{indent}{name}", *_lines(part, indent + "  ")]
        elif isinstance(part, list | tuple) and len(part) > 8:
            lines.append(f"{indent}{name}: {len(part)} of them")
        elif isinstance(part, list | tuple):
            lines.append(f"{indent}{name}: {', '.join(map(str, part))}")
        else:
            lines.append(f"{indent}{name}: {part}")
    return lines
