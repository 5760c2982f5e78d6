"""Makes transformers and diffusers importable before the tests of this folder import them."""

import koma.training  # noqa: F401
