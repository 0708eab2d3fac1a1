"""Copy of a source's sound, subtitles, chapters and tags into its output, in step with the video."""

from __future__ import annotations

from collections.abc import Iterator
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

Span = tuple[float, float | None]  # begin and end of a part of a source, on its container's clock; None: to its end


class StreamCopier:
    """Copies all streams but the video from a source to an output, in step with the video.

    With ``span_s``, packets that begin outside it are left out, chapters are cut to it, and all times are moved so
    that its begin is 0. The output's ``video`` stream gets the source's language and title. ``notes`` takes, in words,
    what of the source has no place in the output.
    """

    def __init__(
        self, source: MediaSource, output: OutputContainer, video: Stream, notes: list[str], span_s: Span | None = None
    ) -> None:
        self._source, self._output, self._span_s = open_input(source), output, span_s
        self._streams: dict[int, Stream] = {}  # of the output, by index in the source
        self._transcoders: dict[int, _Transcoder] = {}
        output.metadata.update((k, v) for k, v in self._source.metadata.items() if k.lower() not in _CONTAINER_TAGS)
        if chapters := [part for chapter in self._source.chapters() if (part := _cut(chapter, span_s))]:
            output.set_chapters(chapters)
        self._add_streams(video, notes)
        copied = [self._source.streams[index] for index in self._streams]
        self._packets = self._source.demux(copied) if copied else iter(())
        self._last_dts: dict[int, int] = {}
        self._shifts: dict[int, int] = {}  # by stream, as the video's where a clock begins anew
        self._pending = self._read()
        self._next = next(self._pending, None)

    def close(self) -> None:
        """Release the source."""
        self._source.close()

    def copy_beside(self, packet: Any) -> None:
        """Copy what comes before a packet of the video, or the muxer would hold all the sound in memory."""
        if packet.dts is not None:
            self.copy_until(float(packet.dts * packet.time_base))

    def copy_until(self, time_s: float | None) -> None:
        """Copy packets up to a time in seconds, or all that are left."""
        while (packet := self._next) is not None:
            if time_s is not None and float(packet.dts * packet.time_base) > time_s:
                return
            index = packet.stream.index
            if index in self._transcoders:
                self._output.mux(self._transcoders[index].convert(packet))
            else:
                packet.stream = self._streams[index]
                self._output.mux(packet)
            self._next = next(self._pending, None)
        for transcoder in self._transcoders.values():
            self._output.mux(transcoder.finish())
        self._transcoders = {}

    def _read(self) -> Iterator[Any]:
        """Yield the packets of the span that have a time; the demuxer ends each stream with an empty one."""
        begin_s, end_s = self._span_s or (0.0, None)
        try:
            for packet in self._packets:
                is_still = packet.stream.disposition & STILL
                if packet.dts is None and packet.size and is_still:
                    packet.pts = packet.dts = 0
                if packet.dts is None:
                    continue
                self._mend_clock(packet)
                self._last_dts[packet.stream.index] = packet.dts
                if self._span_s is None or is_still:
                    yield packet
                    continue
                time_s = float((packet.dts if packet.pts is None else packet.pts) * packet.time_base)
                if end_s is not None and time_s > end_s + _OUT_OF_STEP_S:
                    return
                if begin_s <= time_s and (end_s is None or time_s < end_s):
                    _shift(packet, -round(begin_s / packet.time_base))
                    yield packet
        except FFmpegError:  # the reader of the video has reported the damage already
            return

    def _mend_clock(self, packet: Any) -> None:
        """Let the clock of a stream rise where it slips or begins anew, as the video's does."""
        index, is_text = packet.stream.index, packet.stream.type == "subtitle"
        _shift(packet, self._shifts.get(index, 0))
        earliest = self._last_dts[index] + (not is_text) if index in self._last_dts else packet.dts
        back = earliest - packet.dts
        if back <= 0:
            return
        if back * packet.time_base > CLOCK_RESTART_S and not is_text:  # lines may overlap
            back += packet.duration or 0
            self._shifts[index] = self._shifts.get(index, 0) + back
            _shift(packet, back)
        else:
            packet.dts += back
        if packet.pts is not None:
            packet.pts = max(packet.pts, packet.dts)

    def _add_streams(self, video: Stream, notes: list[str]) -> None:
        """Add the streams of the source, but for its video, to the output."""
        container = self._output.format.name
        num_videos = 0
        for stream in self._source.streams:
            if stream.disposition & STILL and container != "mp4":
                notes.append("the cover image is left out")
            elif stream.disposition & STILL or stream.type in ("audio", "subtitle"):
                self._add_stream(stream, notes)
            elif stream.type == "video":
                num_videos += 1
                if num_videos == 1:
                    video.metadata.update(_stream_tags(stream))
                elif num_videos == 2:
                    notes.append("only the first video stream is stylized, the others are left out")
            elif stream.type == "attachment" and container == "matroska":
                self._output.add_stream_from_template(stream)  # fonts of the subtitles

    def _add_stream(self, stream: Stream, notes: list[str]) -> None:
        name = codec_name(stream)
        if not name:
            notes.append(f"{stream.type} stream {stream.index} is of an unknown codec and left out")
            return
        if name in codecs_for(self._output):
            copy: Any = self._output.add_stream_from_template(stream)
        elif isinstance(stream, AudioStream):
            # The source's own channels as far as FFmpeg's AAC encoder knows them, else stereo.
            layout = {1: "mono", 2: "stereo", 6: "5.1"}.get(stream.channels, "stereo")
            copy = self._output.add_stream("aac", rate=stream.rate, layout=layout)
            self._transcoders[stream.index] = _Transcoder(copy)
            notes.append(f"its sound ({name}) fits into no container and is converted to AAC")
        else:
            notes.append(f"{stream.type} stream {stream.index} ({name}) does not fit into {self._output.format.name}")
            return
        copy.metadata.update(stream.metadata | _stream_tags(stream))
        copy.disposition = stream.disposition
        self._streams[stream.index] = copy


class _Transcoder:
    """Sound that no container takes as it is, such as that of old AVI and WMV files, as AAC."""

    def __init__(self, output: Any) -> None:
        self._output = output
        context = output.codec_context
        self._resampler = AudioResampler(context.format.name, context.layout.name, context.sample_rate, 1024)

    def convert(self, packet: Any) -> list[Any]:
        """Return the packets for one of the source; a damaged one leaves silence."""
        try:
            frames = packet.decode()
        except FFmpegError:
            return []
        pieces = (piece for frame in frames for piece in self._resampler.resample(frame))
        return [out for piece in pieces for out in self._output.encode(piece)]

    def finish(self) -> list[Any]:
        """Return the packets that resampler and encoder still hold."""
        pieces = (*self._resampler.resample(None), None)
        return [out for piece in pieces for out in self._output.encode(piece)]


def _shift(packet: Any, ticks: int) -> None:
    packet.dts += ticks
    packet.pts = None if packet.pts is None else packet.pts + ticks


def _cut(chapter: Any, span_s: Span | None) -> Any:
    """Return the part of a chapter inside a span, on the clock that is 0 at its begin; None: nothing."""
    if span_s is None:
        return chapter
    time_base = chapter["time_base"]
    begin = round(span_s[0] / time_base)
    start, end = max(chapter["start"], begin), chapter["end"]
    if span_s[1] is not None:
        end = min(end, round(span_s[1] / time_base))
    return {**chapter, "start": start - begin, "end": end - begin} if start < end else None


def _stream_tags(stream: Stream) -> dict[str, str]:
    """Return language and title of a stream; what MP4 calls its name is its title."""
    tags = {"title": stream.metadata.get("name", "")} | stream.metadata
    return {key: tags[key] for key in _STREAM_TAGS if tags.get(key)}
