"""Runs over the network: a launcher asks, the coordinator carries out, whoever may watches.

`order` is what a launcher asks for and `check` what is held against it; `desk` holds the runs that
are under way, each a thread, over an `engine`; `event` says what can happen in one, `event_log`
keeps it, `observer` tells it; `facts` is where a run stands, `pages` shows that to people.
`service` answers calls, `client` makes them, and `follow` makes them again where the line is
lost. `select` is whom a run asks, `reach` what a participant can ask, and `admission` lets the
members' nodes in.
"""
