"""Reports of a run: a page of HTML for people, JSON and JUnit XML for programs. Reports contain no keys."""
