"""Terms of credit and cover: rules as data, from indicators and model outputs to acts.

`rule` says what a rule is, `fold` what follows from a subject's days, `log` how that is kept.
"""
