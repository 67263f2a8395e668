"""Every benchmark of the service, one after another: `make bench`."""

from tests.bench import frames, recovery, vectors
from tests.bench.harness import machine

print(machine())
vectors.main()
frames.main()
recovery.main()
