"""The collector: subscriptions of the shop floor become durable records, whatever happens downstream.

A connector speaks one protocol and hands readings to a sink. The sink makes records of them by the site's tags and commits
them to the spool before the connector acknowledges anything. Landing reads the spool like any other source.
"""
