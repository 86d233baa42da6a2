"""A model's card for who has to answer for the model: one page and one JSON of the same facts.

`gather` reads a finished run's folder into `facts`, one frozen value. `page` shows it, `signed`
keeps it and checks it. `evaluation` reads the opened test sum, with the intervals of `interval`;
`stability` compares rows that the card's holder has; `drawing` says where lines go, `limits` what
the model is not for, and `words` has every sentence.
"""
