"""What both command lines share. Only the apps import it."""
