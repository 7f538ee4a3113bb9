"""What the web page is told at its start."""

from dataclasses import dataclass

LOOPBACK = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True, kw_only=True, slots=True)
class WebConfig:
    """Where the page is served, and how much it takes."""

    host: str = "127.0.0.1"
    port: int = 8600
    max_upload_bytes: int = 20 * 2**20
    max_pixels: int = 16_000_000  # the page itself sends 4 million at most; decoded, these take 150 MB while it is read
    concurrent_readings: int = 2  # each takes a thread and some tens of milliseconds of a core
    waiting_readings: int = 32  # beyond these, a browser is asked to come again

    @property
    def url(self) -> str:
        """For a browser on this machine."""
        host = "localhost" if self.host in ("0.0.0.0", "::", *LOOPBACK) else self.host
        return f"http://{host}:{self.port}"

    @property
    def allowed_hosts(self) -> list[str]:
        """Names that a request may call this server by; a page on loopback answers to no other (DNS rebinding)."""
        return ["127.0.0.1", "localhost", "[::1]"] if self.host in LOOPBACK else ["*"]
