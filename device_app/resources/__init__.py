"""The CoAP resources of the device, one file per family. The guard has decided who may."""
