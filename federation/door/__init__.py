"""The door: the one service for who has an invitation and no certificate yet.

`service` answers, `server` listens, `client` asks; `federation.enrolment` decides.
"""
