"""Copy of a source's sound, subtitles, chapters and tags into its output, in step with the video."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from av.audio.resampler import AudioResampler
from av.audio.stream import AudioStream
from av.container import OutputContainer
from av.error import FFmpegError
from av.stream import Discard, Stream

from nst_ops.media.video.clock import Clock, Span, move
from nst_ops.media.video.container import STILL, codec_name, demux, open_whole, own_streams, takes_copy, video_stream
from nst_ops.media.video.source import MediaSource

# Containers write these themselves; copied, they would lie about the new file.
_CONTAINER_TAGS = {"encoder", "major_brand", "minor_version", "compatible_brands", "duration"}
_STREAM_TAGS = ("language", "title", "timecode")
# What the muxers write of a file's tags where others look for them. Anything else, such as the place and the camera of
# a phone, goes into a list of its own that has no room for the cover image.
_COMMON_TAGS = {"title", "album", "date", "comment", "genre", "copyright", "creation_time", "location"}
_PLAIN_TAGS = {
    "mov": _COMMON_TAGS | {"author", "make", "model"},
    "mp4": _COMMON_TAGS
    | {"artist", "album_artist", "composer", "keywords", "grouping", "lyrics", "description", "synopsis", "show"}
    | {"episode_id", "network"},
}
_AAC_RATES = (96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000, 7350)
_OUT_OF_STEP_S = 10  # how far the streams of a file may lie apart in it


class StreamCopier:
    """Copies all streams but the video from a source to an output, in step with the video.

    With ``span``, what begins outside it is left out, chapters are cut to it, and all times are moved so that its begin
    is 0. The output's ``video`` stream gets the source's language and title. ``notes`` takes, in words, what of the
    source has no place in the output.
    """

    def __init__(
        self, source: MediaSource, output: OutputContainer, video: Stream, notes: list[str], span: Span | None = None
    ) -> None:
        self._path, self._source, self._output, self._span = source, open_whole(source), output, span
        self._streams: dict[int, Stream] = {}  # of the output, by index in the source
        self._transcoders: dict[int, _Transcoder] = {}
        self._copy_tags(notes)
        if chapters := [part for chapter in self._source.chapters() if (part := _cut(chapter, span))]:
            output.set_chapters(chapters)
        self._add_streams(video, notes)
        copied = [self._source.streams[index] for index in self._streams]
        clock = span.clock if span else Clock()
        self._packets = clock.steady(demux(self._source, copied)) if copied else iter(())
        self._last_dts: dict[int, int] = {}
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
        span = self._span or Span(0.0, is_cut=False)
        begin_s, end_s = span.begin_s, span.end_s
        try:
            for packet in self._packets:
                is_still = packet.stream.disposition & STILL
                if packet.dts is None and packet.size and is_still:
                    packet.pts = packet.dts = 0
                if packet.dts is None:
                    continue
                self._mend_slip(packet)
                self._last_dts[packet.stream.index] = packet.dts
                if self._span is None or is_still:
                    yield packet
                    continue
                time_s = float((packet.dts if packet.pts is None else packet.pts) * packet.time_base)
                if end_s is not None and time_s > end_s + _OUT_OF_STEP_S:
                    return
                # What precedes the first frame of a clock that begins before zero still belongs to it.
                is_after_begin = not span.is_cut or begin_s < 0 or begin_s <= time_s
                if is_after_begin and (end_s is None or time_s < end_s):
                    move(packet, -round(begin_s / packet.time_base))
                    yield packet
        except FFmpegError:  # the reader of the video has reported the damage already
            return

    def _mend_slip(self, packet: Any) -> None:
        """Let the clock of a stream rise where it slips; lines of text may begin at once."""
        stream, least = packet.stream, int(packet.stream.type != "subtitle")
        if isinstance(stream, AudioStream) and stream.rate:  # MP4 counts its samples
            least = math.ceil(1 / (stream.rate * packet.time_base))
        earliest = self._last_dts.get(stream.index, packet.dts - least) + least
        if packet.dts < earliest:
            packet.dts = earliest
            packet.pts = None if packet.pts is None else max(packet.pts, earliest)

    def _add_streams(self, video: Stream, notes: list[str]) -> None:
        """Add the streams of the source, but for its video, to the output."""
        container = self._output.format.name
        own = own_streams(self._source, self._path, video_stream(self._source))
        if others := len(self._source.streams) - len(own):
            notes.append(f"only the first program is stylized, the {others} streams of others are left out")
        num_videos = 0
        for stream in own:
            if stream.disposition & STILL and container != "mp4":
                notes.append("the cover image is left out")
            elif stream.type == "data":
                self._add_data(stream, video, notes)
            elif stream.disposition & STILL or stream.type in ("audio", "subtitle"):
                self._add_stream(stream, notes)
            elif stream.type == "video":
                num_videos += 1
                if num_videos == 1:
                    video.metadata.update(_stream_tags(stream) | video.metadata)
                elif num_videos == 2:
                    notes.append("only the first video stream is stylized, the others are left out")
            elif stream.type == "attachment" and container == "matroska":
                self._output.add_stream_from_template(stream)  # fonts of the subtitles
            else:
                notes.append(f"{stream.type} stream {stream.index} does not fit into {container}")
        is_later = self._span is not None and self._span.is_cut and self._span.begin_s > 0
        if is_later and "timecode" in video.metadata.keys() | self._output.metadata.keys():
            for metadata in (video.metadata, self._output.metadata):
                metadata.pop("timecode", None)
            notes.append("its timecode is left out: the part begins later")

    def _add_stream(self, stream: Stream, notes: list[str]) -> None:
        name = codec_name(stream)
        if not name:
            notes.append(f"{stream.type} stream {stream.index} is of an unknown codec and left out")
            return
        if takes_copy(self._output.format.name, stream):
            copy: Any = self._output.add_stream_from_template(stream)
        elif isinstance(stream, AudioStream):
            # The source's own channels as far as FFmpeg's AAC encoder knows them, else stereo.
            layout = {1: "mono", 2: "stereo", 6: "5.1"}.get(stream.channels, "stereo")
            rate = min(_AAC_RATES, key=lambda known: abs(known - stream.rate))
            copy = self._output.add_stream("aac", rate=rate, layout=layout)
            self._transcoders[stream.index] = _Transcoder(copy)
            reason = f"does not fit into {self._output.format.name}" if stream.rate else "is not known on opening"
            notes.append(f"its sound ({name}) {reason} and is converted to AAC")
        else:
            notes.append(f"{stream.type} stream {stream.index} ({name}) does not fit into {self._output.format.name}")
            return
        copy.metadata.update(stream.metadata | _stream_tags(stream))
        copy.disposition = stream.disposition
        self._streams[stream.index] = copy

    def _copy_tags(self, notes: list[str]) -> None:
        """Copy the tags of the file, those that players look for to where they do."""
        stated = dict(self._source.metadata)
        if self._source.format.name == "ogg":  # which has those of the file at its streams
            for stream in self._source.streams:
                stated = stream.metadata | stated
        tags = {key: value for key, value in stated.items() if key.lower() not in _CONTAINER_TAGS}
        for key in list(tags):  # FFmpeg names some twice, with and without their language
            if tags.get(key[:-4]) == tags[key] and key[-4:-3] == "-":
                del tags[key]
        plain = _PLAIN_TAGS.get(self._output.format.name)
        if plain is not None and (others := [key for key in tags if key.lower() not in plain | {"timecode"}]):
            if any(stream.disposition & STILL for stream in self._source.streams):
                notes.append(f"its tags {', '.join(others)} are left out: they do not fit beside its cover image")
            else:
                self._output.options["movflags"] += "+use_metadata_tags"
        self._output.metadata.update(tags)

    def _add_data(self, stream: Stream, video: Stream, notes: list[str]) -> None:
        """Copy telemetry where it fits; a timecode is a tag from which the muxer makes its own track."""
        if stream.discard == Discard.all:  # titles of chapters, which are copied as such
            return
        is_timecode = "timecode" in stream.metadata
        if is_timecode:
            video.metadata.setdefault("timecode", stream.metadata["timecode"])
        if is_timecode and stream.frames <= 1:  # more than one sample is telemetry that has a timecode in it
            return
        # Of a kind that FFmpeg does not know the packets would be copied, and not what they are.
        if stream.name and takes_copy(self._output.format.name, stream):
            copy: Any = self._output.add_stream_from_template(stream)
            copy.disposition = stream.disposition
            self._streams[stream.index] = copy
        else:
            kind = stream.metadata.get("handler_name") or stream.name or "unknown"
            notes.append(f"data stream {stream.index} ({kind}) does not fit into {self._output.format.name}")


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


def _cut(chapter: Any, span: Span | None) -> Any:
    """Return the part of a chapter inside a span, on the clock that is 0 at its begin; None: nothing."""
    if span is None:
        return chapter
    time_base = chapter["time_base"]
    begin = round(span.begin_s / time_base)
    start, end = max(chapter["start"], begin), chapter["end"]
    if span.end_s is not None:
        end = min(end, round(span.end_s / time_base))
    return {**chapter, "start": start - begin, "end": end - begin} if start < end else None


def _stream_tags(stream: Stream) -> dict[str, str]:
    """Return language and title of a stream; what MP4 calls its name is its title."""
    tags = {"title": stream.metadata.get("name", "")} | stream.metadata
    return {key: tags[key] for key in _STREAM_TAGS if tags.get(key)}
