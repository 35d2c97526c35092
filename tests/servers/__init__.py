"""The middlewares under real servers: everything that in-process drivers cannot know."""
