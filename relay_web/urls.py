"""All addresses of the site."""

from django.contrib import admin
from django.urls import include, path

admin.autodiscover()
urlpatterns = [
    path("admin/", admin.site.urls),
    path("", include("workers.urls")),
]
handler403 = "workers.views.errors.forbidden"
