"""The report of an audit: JSON, JUnit XML and HTML with plots."""
