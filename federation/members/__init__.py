"""Who is in the federation, over mTLS beside the registry: everyone's standing, acts, renewal.

`service` answers behind the registry's guard, `client` asks; `federation.enrolment` decides.
"""
