"""Sessions of the pages, without a browser."""

import re

from support.servers import Running

_TOKEN = re.compile(r'name="token" value="(\w+)"')


async def session_of(site: Running, key: str) -> str:
    """The cookie of whoever signs in with the key."""
    form = await site.get("/ui/sign-in", headers={"authorization": ""})
    [token] = _TOKEN.findall(form.body.decode())
    visitor = form.headers["set-cookie"].partition(";")[0]
    answer = await site.ask(
        "POST",
        "/ui/sign-in",
        data={"token": token, "key": key},
        headers={"cookie": visitor, "authorization": ""},
        allow_redirects=False,
    )
    assert answer.status == 303, answer.body
    return answer.headers["set-cookie"].partition(";")[0]


async def sign_out(site: Running, cookie: str) -> None:
    """Sign out as the page's button does."""
    headers = {"cookie": cookie, "authorization": ""}
    page = await site.get("/ui/", headers=headers)
    token = _TOKEN.findall(page.body.decode())[0]
    answer = await site.ask(
        "POST", "/ui/sign-out", data={"token": token}, headers=headers, allow_redirects=False
    )
    assert answer.status == 303, answer.body
