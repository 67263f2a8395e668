"""The graph of an ONNX model: its input and its output, made sure to be what the card says."""

from typing import Any

from farpoint_models.card import ModelCard, ModelCardError


def fitting_input(session: Any, card: ModelCard) -> str:
    """Make sure that a graph takes and gives what the card says; return the name of its input.

    Parameters
    ----------
    session
        `onnxruntime.InferenceSession`.
    card
        Its input type, output and dimension.

    Raises
    ------
    ModelCardError
        The graph has another number of inputs, another type or shape, or no such output.
    """
    inputs, outputs = session.get_inputs(), session.get_outputs()
    if len(inputs) != 1:
        raise ModelCardError(f"{card.id}: the graph has {len(inputs)} inputs; expected one, a batch of pictures")
    types = {"uint8": "tensor(uint8)", "float32": "tensor(float)"}
    if inputs[0].type != types[card.input.dtype]:
        raise ModelCardError(f"{card.id}: the graph takes {inputs[0].type}, the card says {card.input.dtype}")
    named = {output.name: output for output in outputs}
    wanted = card.output or outputs[0].name
    if wanted not in named:
        raise ModelCardError(f"{card.id}: the graph has no output {wanted!r}, only {', '.join(named)}")
    shape, kind = named[wanted].shape, named[wanted].type
    # Names and None stand for sizes that are open.
    if len(shape) != 2 or (isinstance(shape[1], int) and shape[1] != card.dimension):
        raise ModelCardError(f"{card.id}: the graph gives {shape}, the card says (N, {card.dimension})")
    if kind != "tensor(float)":
        raise ModelCardError(f"{card.id}: the graph gives {kind}; expected tensor(float), also from an fp16 file")
    return str(inputs[0].name)


def embedding_output(session: Any, card: ModelCard) -> str:
    """Name the output that is the embedding: the card's, else the graph's first."""
    return card.output or str(session.get_outputs()[0].name)
