"""Certificate files without a disk: a table of contents, read at once."""

import trio

from balancer.config.settings import Settings
from balancer.supervisor.certificate_files import Loaded, load_certificates, stamps_of


class MemoryFiles:
    """`balancer.supervisor.certificates.Files`; `contents` by path, to be changed at will."""

    def __init__(self, contents: dict[str, bytes] | None = None) -> None:
        self.contents = contents if contents is not None else {}

    def load_now(self, settings: Settings) -> Loaded:
        return load_certificates(settings, self._read, self.contents.get)

    async def load(self, settings: Settings) -> Loaded:
        await trio.lowlevel.checkpoint()
        return self.load_now(settings)

    async def stamps(self, settings: Settings) -> dict[str, object]:
        await trio.lowlevel.checkpoint()
        return dict(stamps_of(settings, self.contents.get))

    def _read(self, path: str) -> bytes:
        try:
            return self.contents[path]
        except KeyError:
            raise FileNotFoundError(2, "No such file or directory", path) from None
