"""The load: Locust users that send requests to a gateway, in their own processes."""
