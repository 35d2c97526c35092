"""The process and its surroundings: deadlines, event loops, forks, exits, files, threads and optional packages."""
