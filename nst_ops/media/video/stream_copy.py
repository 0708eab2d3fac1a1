"""Sound, subtitles, chapters and tags: from a source to its output, in step with the picture."""

from __future__ import annotations

from typing import Any

from av.audio.resampler import AudioResampler
from av.audio.stream import AudioStream
from av.container import OutputContainer
from av.error import FFmpegError
from av.stream import Stream

from nst_ops.media.video.container import CLOCK_RESTART_S, STILL, codec_name, codecs_for, open_input
from nst_ops.media.video.source import MediaSource

# Containers write these themselves; copied, they would lie about the new file.
_CONTAINER_TAGS = {"encoder", "major_brand", "minor_version", "compatible_brands", "duration"}
_STREAM_TAGS = ("language", "title")
_OUT_OF_STEP_S = 10  # how far the streams of a file may lie apart in it

Span = tuple[float, float | None]
"""Begin and end of a part of a source, in seconds on its container's clock; None: to its end."""


class StreamCopier:
    """Copies what is not the picture from a source to an output, in step with the picture.

    With ``span_s``, packets that begin outside it are left out, chapters are cut to it, and all
    times are moved so that its begin is 0.
    """

    def __init__(
        self,
        source: MediaSource,
        output: OutputContainer,
        picture: Stream,
        notes: list[str],
        span_s: Span | None = None,
    ) -> None:
        self._source = open_input(source)
        self._output = output
        self._span_s = span_s
        output.metadata.update(
            {k: v for k, v in self._source.metadata.items() if k.lower() not in _CONTAINER_TAGS}
        )
        chapters = self._source.chapters()
        if span_s:
            chapters = [part for chapter in chapters if (part := _cut(chapter, span_s))]
        if chapters:
            output.set_chapters(chapters)
        self._twins: dict[int, Stream] = {}
        self._transcoders: dict[int, _Transcoder] = {}
        pictures = 0
        for stream in self._source.streams:
            if stream.disposition & STILL:
                self._add_cover(stream, notes)
            elif stream.type == "video":
                pictures += 1
                if pictures == 1:
                    picture.metadata.update(_stream_tags(stream))
                elif pictures == 2:
                    notes.append("only the first video stream is stylized, the others are left out")
            elif stream.type in ("audio", "subtitle"):
                self._add_twin(stream, notes)
            elif stream.type == "attachment" and output.format.name == "matroska":
                output.add_stream_from_template(stream)  # fonts of the subtitles
        self._packets = (
            self._source.demux([self._source.streams[i] for i in self._twins]) if self._twins else iter(())
        )
        self._next: Any = None
        self._at_end = False
        self._last_dts: dict[int, int] = {}
        self._shifts: dict[int, int] = {}  # by stream, as the picture's where a clock begins anew

    def close(self) -> None:
        """Release the source."""
        self._source.close()

    def copy_until(self, time_s: float | None) -> None:
        """Copy packets up to a time in seconds, or all that are left."""
        while not self._at_end:
            if self._next is None:
                self._next = self._read()
            if self._next is None:
                self._at_end = True
                for transcoder in self._transcoders.values():
                    self._output.mux(transcoder.finish())
                return
            packet = self._next
            if time_s is not None and float(packet.dts * packet.time_base) > time_s:
                return
            self._next = None
            index = packet.stream.index
            if index in self._transcoders:
                self._output.mux(self._transcoders[index].convert(packet))
            else:
                packet.stream = self._twins[index]
                self._output.mux(packet)

    def _read(self) -> Any:
        """The next packet with a time; the demuxer ends each stream with an empty one."""
        begin_s, end_s = self._span_s or (0.0, None)
        try:
            for packet in self._packets:
                is_still = packet.stream.disposition & STILL
                if packet.dts is None and packet.size and is_still:
                    packet.pts = packet.dts = 0
                if packet.dts is None:
                    continue
                self._go_on(packet)
                self._last_dts[packet.stream.index] = packet.dts
                if self._span_s is None or is_still:
                    return packet
                time_s = float((packet.dts if packet.pts is None else packet.pts) * packet.time_base)
                if end_s is not None and time_s > end_s + _OUT_OF_STEP_S:
                    return None
                if begin_s <= time_s and (end_s is None or time_s < end_s):
                    back = round(begin_s / packet.time_base)
                    packet.dts -= back
                    packet.pts = None if packet.pts is None else packet.pts - back
                    return packet
        except FFmpegError:  # the picture's reader has judged the damage already
            pass
        return None

    def _go_on(self, packet: Any) -> None:
        """Let the clock of a stream rise where it slips or begins anew, as the picture's does."""
        index, is_text = packet.stream.index, packet.stream.type == "subtitle"
        packet.dts += self._shifts.get(index, 0)
        if packet.pts is not None:
            packet.pts += self._shifts.get(index, 0)
        earliest = self._last_dts[index] + (not is_text) if index in self._last_dts else packet.dts
        back = earliest - packet.dts
        if back <= 0:
            return
        if back * packet.time_base > CLOCK_RESTART_S and not is_text:  # lines may overlap
            back += packet.duration or 0
            self._shifts[index] = self._shifts.get(index, 0) + back
            packet.pts = None if packet.pts is None else packet.pts + back
        packet.dts += back
        if packet.pts is not None:
            packet.pts = max(packet.pts, packet.dts)

    def _add_twin(self, stream: Stream, notes: list[str]) -> None:
        name = codec_name(stream)
        if not name:
            notes.append(f"{stream.type} stream {stream.index} is of an unknown codec and left out")
            return
        if name in codecs_for(self._output):
            twin: Any = self._output.add_stream_from_template(stream)
        elif isinstance(stream, AudioStream):
            twin = self._output.add_stream("aac", rate=stream.rate, layout=_aac_layout(stream))
            self._transcoders[stream.index] = _Transcoder(stream, twin)
            notes.append(f"its sound ({name}) fits into no container and is converted to AAC")
        else:
            notes.append(
                f"{stream.type} stream {stream.index} ({name}) does not fit into {self._output.format.name}"
            )
            return
        twin.metadata.update(stream.metadata | _stream_tags(stream))
        twin.disposition = stream.disposition
        self._twins[stream.index] = twin

    def _add_cover(self, stream: Stream, notes: list[str]) -> None:
        if self._output.format.name == "mp4":
            self._add_twin(stream, notes)
        else:
            notes.append("the cover picture is left out")


def _cut(chapter: Any, span_s: Span) -> Any:
    """What of a chapter lies in a span, on the clock that is 0 at its begin; None: nothing."""
    time_base = chapter["time_base"]
    begin = round(span_s[0] / time_base)
    start, end = max(chapter["start"], begin), chapter["end"]
    if span_s[1] is not None:
        end = min(end, round(span_s[1] / time_base))
    return {**chapter, "start": start - begin, "end": end - begin} if start < end else None


class _Transcoder:
    """Sound that no container takes as it is, such as that of old AVI and WMV files, as AAC."""

    def __init__(self, source: AudioStream, twin: Any) -> None:
        self._source, self._twin = source, twin
        context = twin.codec_context
        self._resampler = AudioResampler(context.format.name, context.layout.name, context.sample_rate, 1024)

    def convert(self, packet: Any) -> list[Any]:
        """Packets of the twin for one of the source; a damaged one leaves silence."""
        try:
            frames = packet.decode()
        except FFmpegError:
            return []
        return [
            out
            for frame in frames
            for piece in self._resampler.resample(frame)
            for out in self._twin.encode(piece)
        ]

    def finish(self) -> list[Any]:
        """The packets that resampler and encoder still held."""
        pieces = self._resampler.resample(None)
        return [*(out for piece in pieces for out in self._twin.encode(piece)), *self._twin.encode(None)]


def _aac_layout(stream: AudioStream) -> str:
    """The source's own channels as far as FFmpeg's AAC encoder knows them, else stereo."""
    return {1: "mono", 2: "stereo", 6: "5.1"}.get(stream.channels, "stereo")


def _stream_tags(stream: Stream) -> dict[str, str]:
    """Language and title of a stream; what MP4 calls its name is its title."""
    tags = {"title": stream.metadata.get("name", "")} | stream.metadata
    return {key: tags[key] for key in _STREAM_TAGS if tags.get(key)}
