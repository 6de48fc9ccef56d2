"""The leaderboards: tables, a page and figures from result records and published figures."""
