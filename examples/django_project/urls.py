"""The URLs of the project."""

from django.urls import include, path
from examples.django_project import views

v1 = [
    path("agents", views.agents),
    path("search", views.search),
    path("report", views.report),
    path("quotes", views.Quotes.as_view()),
]
urlpatterns = [path("health", views.health), path("login", views.log_in), path("v1/", include(v1))]
