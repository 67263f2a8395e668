"""Where things lie that come with the package."""

from pathlib import Path

import farpoint_models

SHIPPED_MODEL = "efficientnet-lite0"


def shipped_model() -> Path:
    """Return the folder of the model that comes with Farpoint, in a wheel or in a checkout."""
    package = Path(farpoint_models.__file__).parent
    in_wheel = package / "artifacts" / SHIPPED_MODEL
    return in_wheel if in_wheel.is_dir() else package.parent / "artifacts" / SHIPPED_MODEL
