"""The recipes of docs/models.md, run word for word on small networks of the same structure with random weights."""

import importlib.resources
import json
import re
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from farpoint.model_library import ModelLibrary
from farpoint_models.embedder import OnnxEmbedder
from farpoint_models.images import decode_image, preprocess, stack
from farpoint_models.importing import cosines

pytestmark = [pytest.mark.train, pytest.mark.timeout(600)]

PAGE = Path(__file__).parents[4] / "docs/models.md"
WIDTH, HEADS, LAYERS = 32, 4, 2


def recipes() -> tuple[str, str, str]:
    """Return the page's three pieces of Python: the exporter, and a use of it for each kind of model."""
    exporter, dino, clip = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    return exporter, dino, clip


def transformer(*, clip: bool) -> Any:
    """Build a small vision transformer as DINOv2 (layer scale) or CLIP (norm before, projection) has it."""
    import torch
    from torch import nn

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm1, self.norm2 = nn.LayerNorm(WIDTH, eps=1e-6), nn.LayerNorm(WIDTH, eps=1e-6)
            self.qkv, self.project = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
            self.rise, self.fall = nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(4 * WIDTH, WIDTH)
            scale = 1.0 if clip else 0.5
            self.scale1, self.scale2 = (nn.Parameter(torch.full((WIDTH,), scale)) for _ in range(2))

        def forward(self, tokens: Any) -> Any:
            batch, count, _ = tokens.shape
            parts = self.qkv(self.norm1(tokens)).reshape(batch, count, 3, HEADS, WIDTH // HEADS).permute(2, 0, 3, 1, 4)
            mixed = nn.functional.scaled_dot_product_attention(parts[0], parts[1], parts[2])
            tokens = tokens + self.scale1 * self.project(mixed.transpose(1, 2).reshape(batch, count, WIDTH))
            risen = self.rise(self.norm2(tokens))
            risen = risen * torch.sigmoid(1.702 * risen) if clip else nn.functional.gelu(risen)
            return tokens + self.scale2 * self.fall(risen)

    class Transformer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            side = 32 if clip else 14
            self.patches = nn.Conv2d(3, WIDTH, side, stride=side, bias=not clip)
            self.token = nn.Parameter(torch.randn(1, 1, WIDTH))
            self.positions = nn.Parameter(torch.randn(1, (224 // side) ** 2 + 1, WIDTH))
            self.before = nn.LayerNorm(WIDTH) if clip else nn.Identity()
            self.blocks = nn.Sequential(*(Block() for _ in range(LAYERS)))
            self.after = nn.LayerNorm(WIDTH)
            self.projection = nn.Linear(WIDTH, 24, bias=False) if clip else nn.Identity()

        def forward(self, pixels: Any) -> Any:
            patches = self.patches(pixels).flatten(2).transpose(1, 2)
            tokens = torch.cat([self.token.expand(pixels.shape[0], -1, -1), patches], dim=1) + self.positions
            return self.projection(self.after(self.blocks(self.before(tokens))[:, 0]))

    torch.manual_seed(0)
    return Transformer().eval()


def checked(name: str, library: ModelLibrary) -> None:
    """Import what a recipe wrote, and run it on real photographs."""
    stored = library.bring_in(Path(f"{name}.onnx"), Path(f"{name}.json"), [(Path(f"{name}.png"), Path(f"{name}.npy"))])
    assert stored.card is not None
    assert stored.card.id == f"{name}@1"
    assert (stored.card.input.dtype, stored.card.input.layout, stored.card.input.resize) == ("uint8", "NHWC", "crop")
    agreement = stored.card.files["fp32"].agreement
    assert agreement is not None
    assert agreement.min_cosine >= 0.9999
    embedder = OnnxEmbedder(stored.folder, device="cpu")
    embedder.warm_up()
    folder = importlib.resources.files("sklearn.datasets") / "images"
    images = [decode_image((folder / file).read_bytes(), min_side=224) for file in ("china.jpg", "flower.jpg")]
    rows = embedder.embed(stack([preprocess(image, embedder.card) for image in images]))
    assert np.isfinite(rows).all()
    assert cosines(rows[:1], rows[1:])[0] < 0.999


def test_dinov2(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The recipe for a DINOv2-style transformer gives a model that is let in and agrees with torch."""
    import torch

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(torch.hub, "load", lambda *_: transformer(clip=False))
    exporter, dino, _ = recipes()
    exec(exporter + dino, {})  # noqa: S102
    library = ModelLibrary(tmp_path / "library")
    checked("dinov2-vits14", library)
    assert [model.card.id for model in library.models() if model.card] == ["efficientnet-lite0@1", "dinov2-vits14@1"]


def test_clip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The recipe for a CLIP-style encoder does too; a wrong card is refused with what would have matched."""
    import torch

    class Encoder(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inside = transformer(clip=True)

        @classmethod
        def from_pretrained(cls, name: str) -> "Encoder":
            assert name.startswith("openai/clip")
            return cls()

        def forward(self, pixel_values: Any) -> Any:
            return types.SimpleNamespace(image_embeds=self.inside(pixel_values))

    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "transformers", types.SimpleNamespace(CLIPVisionModelWithProjection=Encoder))
    exporter, _, clip = recipes()
    exec(exporter + clip, {})  # noqa: S102
    checked("clip-vit-b32", ModelLibrary(tmp_path / "library"))
    assert json.loads(Path("clip-vit-b32.json").read_text())["name"] == "clip-vit-b32"
