"""Mouths: their pictures, and the features that MuSE's visual front-end sees in them."""
