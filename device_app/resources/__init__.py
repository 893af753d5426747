"""The CoAP resources of the device, one file per family, behind the guard."""
