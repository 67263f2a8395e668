"""The embed stage against the bare device: `make bench-embed` on the CPU, `make bench-gpu` on a GPU.

Bare means what anybody could write with the same libraries: decoding in a pool of threads, ONNX Runtime in a loop. The
bound of both together is the lesser of the two on a GPU, where they share nothing; on a CPU they share the cores, so it
is the harmonic sum: a frame costs the time of its decoding and that of its inference.

Rates are the best of several short rounds in turn: what else runs on the machine makes any of them worse, none better.
Beside them stand the milliseconds of processor time that a frame costs, which other programs change far less, and how
much of the cores was idle meanwhile: a stage that wastes neither is bound by the device.
"""
