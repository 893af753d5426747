"""The code that both command lines share. Only the apps import it."""
