"""Native code: compile generated C++, keep it in a cache, call it."""

from __future__ import annotations

from composer.runtime.build import doctor, libraries, library

__all__ = ["doctor", "libraries", "library"]
