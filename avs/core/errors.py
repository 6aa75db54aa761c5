"""The one error that is meant for the user's eyes."""


class InputError(ValueError):
    """Something that the user gave is wrong; the message names it, its value and the way out."""
