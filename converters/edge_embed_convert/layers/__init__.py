"""Building blocks of encoders, written so that the delegate runs all of them.

Others may use everything here; `common` holds norms and attention, `post_norm` the encoder of BERT and its
relatives, `windowed` attention within a window, `rotary` and `relative` positions, `head` what follows.
"""
