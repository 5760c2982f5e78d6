defmodule Koma.Store.Journal do
  @moduledoc """
  The bytes of the job journal: records of `<<length::32, crc32::32, term>>`, one after another.

  A crash may leave the last record half written. Reading stops at the first record that does
  not add up; the caller cuts the file there, so the next record follows a whole one.
  """

  # The largest record is an accepted job with its parameters; far below this.
  @max_record 64 * 1024 * 1024

  @doc "One record."
  @spec encode(term) :: iodata
  def encode(term) do
    bytes = :erlang.term_to_binary(term)
    [<<byte_size(bytes)::32, :erlang.crc32(bytes)::32>>, bytes]
  end

  @doc "Folds over the whole records; returns the result and the length of the sound part."
  @spec fold(binary, acc, (term, acc -> acc)) :: {acc, sound_bytes :: non_neg_integer}
        when acc: term
  def fold(bytes, acc, fun), do: fold(bytes, 0, acc, fun)

  defp fold(bytes, offset, acc, fun) do
    with <<_::binary-size(offset), size::32, crc::32, rest::binary>> when size <= @max_record <-
           bytes,
         <<record::binary-size(size), _::binary>> <- rest,
         ^crc <- :erlang.crc32(record) do
      fold(bytes, offset + 8 + size, fun.(:erlang.binary_to_term(record), acc), fun)
    else
      _end_or_torn -> {acc, offset}
    end
  end
end
