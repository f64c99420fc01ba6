"""The plant as data: equipment, calendar, characteristics, streams and sources from a site folder."""

from spc_platform.site.model import BaselinePolicy, Policies, Resource, Site, Source

__all__ = ["BaselinePolicy", "Policies", "Resource", "Site", "Source"]
