"""Where the device keeps its files, and its settings: how they are read and checked."""
