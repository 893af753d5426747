"""`python -m handfast`: the same as the command `handfast`."""


def main() -> None:
    """Run the command line of the client."""
    from client_app.cli import main as handfast  # noqa: PLC0415 - the device does not need it

    handfast()


def device() -> None:
    """Run the command line of the device: `handfast-device`."""
    from device_app.__main__ import main as handfast_device  # noqa: PLC0415 - as above

    handfast_device()


if __name__ == "__main__":
    main()
