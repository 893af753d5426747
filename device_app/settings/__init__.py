"""The settings of the device, how they are read and checked, and the paths of its files."""
