"""The address of the dashboard."""

PAGE = "/admin/convo/turn/usage/"
