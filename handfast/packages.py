"""Refuse to start if other code has taken the name of a package of this distribution.

`peer` and `iam` are generic names. Python imports the first module of a name that it finds, so a
`peer.py` beside a script, or another distribution with a package `iam`, takes the place of
handfast's. Each package of handfast names handfast in its first lines.
"""

import sys
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from os.path import dirname, realpath

OWN = ("peer", "iam", "device_app", "client_app")
_FOLDER = dirname(dirname(realpath(__file__)))  # noqa: PTH120 - pathlib takes longer to import
_COMMANDS = ("handfast", "handfast-device")


def check_packages() -> None:
    """Raise ImportError if Python finds another module than ours under one of our names.

    A command of this distribution ends instead, with the same words and without a traceback. A
    library must not end the process of its user, who may catch the error.
    """
    try:
        _check_packages()
    except ImportError as error:
        if _is_command():
            raise SystemExit(str(error)) from None
        raise


def _is_command() -> bool:
    """Whether this process was started as `handfast` or `handfast-device`."""
    if sys.argv[:1] == ["-m"]:  # Python sets it while it looks for the module to run
        return "handfast" in sys.orig_argv[1:4]
    return bool(sys.argv) and sys.argv[0].rpartition("/")[2] in _COMMANDS


def _check_packages() -> None:
    for name in OWN:
        spec = _spec(name)
        if spec is None:
            raise _refused(name, f"the package `{name}` is missing", "Install handfast again.")
        if not _is_in_our_folder(spec):
            raise _refused(
                name,
                f"the module `{name}` that Python finds is {_place(name, spec)}, not the one of "
                f"handfast in {_FOLDER}",
                f"Rename that `{name}`, or remove its folder from the import path.",
            )
        if not _names_us(spec):
            raise _refused(
                name,
                f"another distribution has replaced {spec.origin}",
                "Install handfast in a virtual environment of its own.",
            )


def _spec(name: str) -> ModuleSpec | None:
    """Return the module that Python would import, or has imported, under a name."""
    try:
        return find_spec(name)
    except ValueError:  # it is imported, and does not say from where
        return ModuleSpec(name, None, origin=getattr(sys.modules[name], "__file__", None))


def _is_in_our_folder(spec: ModuleSpec) -> bool:
    return any(
        dirname(realpath(place)) == _FOLDER  # noqa: PTH120
        for place in spec.submodule_search_locations or ()
    )


def _place(name: str, spec: ModuleSpec) -> str:
    return spec.origin or next(iter(spec.submodule_search_locations or ()), f"a module `{name}`")


def _names_us(spec: ModuleSpec) -> bool:
    """Whether the source of a package names handfast; a package without source is not read."""
    read = getattr(spec.loader, "get_data", None)
    if read is None or spec.origin is None or not spec.origin.endswith(".py"):
        return True
    return b"handfast" in read(spec.origin)


def _refused(name: str, what: str, advice: str) -> ImportError:
    return ImportError(f"handfast cannot be imported: {what}. {advice}", name=name)
