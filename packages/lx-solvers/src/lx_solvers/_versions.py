"""The versions and settings for a bug report."""

import importlib.metadata
import platform
import sys

import jax

_PACKAGES = ("lineax", "lx-autodiff", "lx-solvers", "lx-operators")
_REST = ("jax", "jaxlib", "equinox", "jaxtyping", "numpy", "scipy")
_EXTRAS = ("rslab", "pyamg", "matplotlib", "tqdm")


def show_versions() -> None:
    """Prints the versions and settings that a bug report needs.

    These are the versions of the four packages, of the libraries they use, of installed
    extras and of Python; the devices; and the settings of JAX that affect numbers.

    ```python
    lx.show_versions()
    ```
    """
    lines = [("python", platform.python_version()), ("system", platform.platform())]
    lines += [(name, _version(name)) for name in _PACKAGES + _REST]
    lines += [(name, v) for name in _EXTRAS if (v := _version(name)) != "not installed"]
    devices = jax.devices()
    kinds = sorted({f"{d.platform} ({d.device_kind})" for d in devices})
    lines.append(("devices", f"{len(devices)} x {', '.join(kinds)}"))
    for setting in ("enable_x64", "default_matmul_precision", "numpy_dtype_promotion"):
        lines.append((setting, str(getattr(jax.config, f"jax_{setting}"))))
    width = max(len(name) for name, _ in lines)
    print("\n".join(f"{name:<{width}}  {text}" for name, text in lines))


def _version(package: str) -> str:
    """A package's version; for one imported from a folder, the version that it
    states."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        module = sys.modules.get(package.replace("-", "_"))
        return getattr(module, "__version__", "not installed")
