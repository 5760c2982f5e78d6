defmodule Koma.Store.MediaType do
  @moduledoc """
  Media types by the first bytes of a file. What a file is decides over what it is called, so a
  PNG that was uploaded as MP4 is refused where a video is wanted, before a model node sees it.
  """

  @image_brands ["avif", "avis", "heic", "mif1"]

  @doc "How many bytes `sniff/2` looks at."
  @spec needed() :: pos_integer
  def needed, do: 64

  @doc "The media type of `bytes` (a file's beginning), or `claimed` where they do not tell."
  @spec sniff(binary, claimed) :: String.t() | claimed when claimed: String.t() | nil
  def sniff(<<0x89, "PNG\r\n", 0x1A, "\n", _::binary>>, _claimed), do: "image/png"
  def sniff(<<0xFF, 0xD8, 0xFF, _::binary>>, _claimed), do: "image/jpeg"
  def sniff(<<"GIF8", v, "a", _::binary>>, _claimed) when v in '79', do: "image/gif"
  def sniff(<<"RIFF", _::32, "WEBP", _::binary>>, _claimed), do: "image/webp"
  def sniff(<<"RIFF", _::32, "AVI ", _::binary>>, _claimed), do: "video/x-msvideo"
  def sniff(<<_::32, "ftypqt", _::binary>>, _claimed), do: "video/quicktime"

  def sniff(<<_::32, "ftyp", brand::binary-size(4), _::binary>>, _claimed)
      when brand not in @image_brands,
      do: "video/mp4"

  # EBML carries both; its document type stands within the first bytes.
  def sniff(<<0x1A, 0x45, 0xDF, 0xA3, rest::binary>>, _claimed) do
    head = binary_part(rest, 0, min(byte_size(rest), needed() - 4))
    if :binary.match(head, "webm") != :nomatch, do: "video/webm", else: "video/x-matroska"
  end

  def sniff(_bytes, claimed), do: claimed
end
