defmodule Koma.Store.MediaType do
  @moduledoc """
  Media types by the first bytes of a file. What a file is decides over what it is called, so a
  PNG that was uploaded as MP4 is refused where a video is wanted, before a model node sees it.

  `python_nodes/koma/models/media/sniff.py` tells the same of the same bytes: both are held to
  `test/media/heads.json`.
  """

  import Bitwise

  @names %{
    "image/png" => "a PNG picture",
    "image/jpeg" => "a JPEG picture",
    "image/webp" => "a WebP picture",
    "image/avif" => "an AVIF picture",
    "image/gif" => "a GIF animation",
    "video/mp4" => "an MP4 video",
    "video/quicktime" => "a QuickTime video",
    "video/webm" => "a WebM video",
    "video/x-matroska" => "a Matroska video",
    "image/heic" => "a HEIC picture",
    "image/heif" => "a HEIF picture",
    "image/bmp" => "a BMP picture",
    "image/tiff" => "a TIFF picture",
    "image/jxl" => "a JPEG XL picture",
    "image/jp2" => "a JPEG 2000 picture",
    "image/x-icon" => "an icon",
    "image/vnd.adobe.photoshop" => "a Photoshop document",
    "image/svg+xml" => "an SVG drawing",
    "video/x-msvideo" => "an AVI video",
    "video/mp2t" => "an MPEG transport stream",
    "video/mpeg" => "an MPEG video",
    "video/x-flv" => "a Flash video",
    "video/x-ms-asf" => "a Windows Media file",
    "audio/mp4" => "an MPEG-4 sound",
    "audio/mpeg" => "an MP3 sound",
    "audio/wav" => "a WAV sound",
    "audio/flac" => "a FLAC sound",
    "application/ogg" => "an Ogg file",
    "application/ebml" => "an EBML file",
    "application/pdf" => "a PDF document",
    "application/zip" => "a ZIP archive",
    "application/gzip" => "a gzip archive",
    "text/html" => "a web page"
  }

  @starts [
    {<<0x89, "PNG\r\n", 0x1A, "\n">>, "image/png"},
    {<<0xFF, 0xD8, 0xFF>>, "image/jpeg"},
    {"GIF87a", "image/gif"},
    {"GIF89a", "image/gif"},
    {"II*\0", "image/tiff"},
    {"MM\0*", "image/tiff"},
    {"II+\0", "image/tiff"},
    {"MM\0+", "image/tiff"},
    {<<0xFF, 0x0A>>, "image/jxl"},
    {<<12::32, "JXL \r\n", 0x87, "\n">>, "image/jxl"},
    {<<12::32, "jP  \r\n", 0x87, "\n">>, "image/jp2"},
    {<<0, 0, 1, 0>>, "image/x-icon"},
    {"8BPS", "image/vnd.adobe.photoshop"},
    {"<svg", "image/svg+xml"},
    {<<0, 0, 1, 0xBA>>, "video/mpeg"},
    {<<0, 0, 1, 0xB3>>, "video/mpeg"},
    {<<"FLV", 1>>, "video/x-flv"},
    {<<"0&", 0xB2, "u", 0x8E, "f", 0xCF, 0x11>>, "video/x-ms-asf"},
    {"ID3", "audio/mpeg"},
    {<<0xFF, 0xFB>>, "audio/mpeg"},
    {<<0xFF, 0xFA>>, "audio/mpeg"},
    {<<0xFF, 0xF3>>, "audio/mpeg"},
    {<<0xFF, 0xF2>>, "audio/mpeg"},
    {"fLaC", "audio/flac"},
    {"OggS", "application/ogg"},
    {"%PDF-", "application/pdf"},
    {<<"PK", 3, 4>>, "application/zip"},
    {<<0x1F, 0x8B, 8>>, "application/gzip"}
  ]

  @avif_brands ["avif", "avis"]
  @heic_brands ["heic", "heix", "heim", "heis", "hevc", "hevx", "hevm", "hevs"]
  # Of the container alone: the codec stands among the brands that follow.
  @picture_brands ["mif1", "mif2", "msf1", "miaf"]
  @sound_brands ["M4A ", "M4B ", "M4P "]
  @quicktime_atoms ["moov", "mdat", "wide", "free", "skip", "pnot"]

  @doc "How many bytes `sniff/2` looks at."
  @spec needed() :: pos_integer
  def needed, do: 512

  @doc """
  The media type of `bytes` (a file's beginning), or `claimed` where they do not tell. A claim to be
  of a type that the bytes would show, had it been true, is not believed.
  """
  @spec sniff(binary, claimed) :: String.t() | claimed when claimed: String.t() | nil
  def sniff(bytes, claimed) do
    head = binary_part(bytes, 0, min(byte_size(bytes), needed()))

    cond do
      found = told(head) -> found
      is_map_key(@names, claimed) and claimed != "text/html" -> "application/octet-stream"
      true -> claimed
    end
  end

  @doc "A media type as a sentence names it."
  @spec name(String.t()) :: String.t()
  def name("application/octet-stream"), do: "of no known media type"
  def name(media_type), do: Map.get(@names, media_type, media_type)

  for {start, media_type} <- @starts do
    defp told(unquote(start) <> _), do: unquote(media_type)
  end

  defp told(<<"RIFF", _::32, "WEBP", _::binary>>), do: "image/webp"
  defp told(<<"RIFF", _::32, "AVI ", _::binary>>), do: "video/x-msvideo"
  defp told(<<"RIFF", _::32, "WAVE", _::binary>>), do: "audio/wav"

  defp told(<<size::32, "ftyp", major::binary-size(4), _::binary>> = head),
    do: iso(major, brands(head, size))

  # Older files have no brands: an atom of less than 512 MiB comes first, which no text begins with.
  defp told(<<size, _::24, atom::binary-size(4), _::binary>>)
       when atom in @quicktime_atoms and size < 0x20,
       do: "video/quicktime"

  defp told(<<0x1A, 0x45, 0xDF, 0xA3, _::binary>> = head), do: ebml(head)
  defp told(<<"BM", _::32, 0::32, _::binary>>), do: "image/bmp"

  # A packet every 188 bytes, or every 192 with a time before each.
  defp told(<<"G", _::binary-size(187), "G", _::binary-size(187), "G", _::binary>>),
    do: "video/mp2t"

  defp told(<<_::32, "G", _::binary-size(191), "G", _::binary-size(191), "G", _::binary>>),
    do: "video/mp2t"

  defp told(head), do: if(web_page?(head), do: "text/html")

  # Files of ISO/IEC 14496-12 begin with their brands; any that names no other kind is a video.
  defp iso(major, _brands) when major in @avif_brands, do: "image/avif"
  defp iso(major, _brands) when major in @heic_brands, do: "image/heic"

  defp iso(major, brands) when major in @picture_brands do
    cond do
      Enum.any?(brands, &(&1 in @avif_brands)) -> "image/avif"
      Enum.any?(brands, &(&1 in @heic_brands)) -> "image/heic"
      true -> "image/heif"
    end
  end

  defp iso(major, _brands) when major in @sound_brands, do: "audio/mp4"
  defp iso("qt" <> _, _brands), do: "video/quicktime"
  defp iso(_major, _brands), do: "video/mp4"

  defp brands(head, size) do
    case binary_part(head, 0, min(size, byte_size(head))) do
      <<_::binary-size(16), rest::binary>> -> for <<brand::binary-size(4) <- rest>>, do: brand
      _none -> []
    end
  end

  # WebM and other Matroska files differ in the DocType of their header (RFC 8794, 11.2.6).
  defp ebml(head) do
    case :binary.split(head, <<0x42, 0x82>>) do
      [_before, <<first, _::binary>> = rest] when first > 0 -> doc_type(rest, width(first, 1))
      _without -> "video/x-matroska"
    end
  end

  # The width of a length is told by the first bit that is set.
  defp width(first, width) when (first &&& 0x80) != 0, do: width
  defp width(first, width), do: width(first <<< 1, width + 1)

  defp doc_type(rest, width) do
    bits = 7 * width

    case rest do
      <<_::size(width), length::size(bits), text::binary>> ->
        text |> binary_part(0, min(length, byte_size(text))) |> named()

      _cut ->
        "application/ebml"
    end
  end

  defp named(doc_type) do
    case String.trim_trailing(doc_type, <<0>>) do
      "webm" -> "video/webm"
      "matroska" -> "video/x-matroska"
      _other -> "application/ebml"
    end
  end

  defp web_page?(<<space, rest::binary>>) when space in ' \t\n\v\f\r', do: web_page?(rest)

  # Byte by byte: what is no text must not be taken for some.
  defp web_page?(head) do
    start = head |> binary_part(0, min(byte_size(head), 14)) |> String.downcase(:ascii)
    String.starts_with?(start, ["<!doctype html", "<html"])
  end
end
