"""The blocking interface of handfast, for code without `async`.

    from handfast.sync import Client

    with Client() as client:
        kitchen = client.connect("kitchen")
        print(kitchen.get("/hello").text)

Its errors and values are those of `handfast`.
"""

from client_app.sync import Administration, Client, Device, PairingOptions

__all__ = ["Administration", "Client", "Device", "PairingOptions"]
