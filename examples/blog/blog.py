"""A blog: posts are listed, shown and written. The tutorial's database and login are left out."""

from flask import Flask, abort, redirect, render_template_string, request, url_for
from werkzeug.wrappers import Response

from observability import Telemetry

PAGE = "<ul>{% for title in posts %}<li>{{ title }}</li>{% endfor %}</ul>"


def create_app(telemetry: Telemetry) -> Flask:
    """The application factory."""
    app = Flask(__name__)
    telemetry.instrument_flask(app)  # telemetry
    posts: dict[int, str] = {}

    @app.get("/")
    def index() -> str:
        return render_template_string(PAGE, posts=posts.values())

    @app.post("/create")
    def create() -> Response:
        title = request.form.get("title", "").strip()
        if not title:
            abort(400, "Title is required.")
        posts[len(posts) + 1] = title
        app.logger.info("a post was created")
        return redirect(url_for("index"))

    @app.get("/<int:number>")
    def show(number: int) -> str:
        if number not in posts:
            abort(404, f"Post {number} doesn't exist.")
        return posts[number]

    return app
