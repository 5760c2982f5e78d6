defmodule Koma.Store.Journal do
  @moduledoc """
  The bytes of a journal: records of `<<length::32, crc32::32, term>>`, one after another.

  A crash may leave the last record half written, and a disk may damage any. Reading goes on behind
  what does not add up, at the next record that does:

  - a record whose length alone is damaged is read all the same: its term tells where it ends;
  - a damaged record that is followed by a whole one, or by the end, is skipped by its length;
  - behind a half record there is nothing, as nothing was written later;
  - else the bytes are searched for the next whole record.
  """

  # The largest record is an accepted job with its parameters; far below this.
  @max_record 64 * 1024 * 1024
  @header 8
  # Of a term: the version, and what begins a small tuple, or an atom.
  @version 131
  @tuple 104
  @atoms [100, 118, 119]
  @shortest 3

  @typedoc """
  What reading met: where the sound part ends (the `torn` bytes behind it are cut off by the caller, so that
  the next record follows a whole one), and the damaged places, of which the last may lie at the end.
  """
  @type report :: %{
          sound: non_neg_integer,
          torn: non_neg_integer,
          damaged: [{offset :: non_neg_integer, bytes :: pos_integer}]
        }

  @doc "One record."
  @spec encode(term) :: iodata
  def encode(term) do
    bytes = :erlang.term_to_binary(term)
    [<<byte_size(bytes)::32, :erlang.crc32(bytes)::32>>, bytes]
  end

  @doc "Folds over the whole records."
  @spec fold(binary, acc, (term, acc -> acc)) :: {acc, report} when acc: term
  def fold(bytes, acc, fun), do: fold(bytes, 0, [], acc, fun)

  defp fold(bytes, offset, damaged, acc, _fun) when offset == byte_size(bytes) do
    {acc, report(offset, 0, damaged)}
  end

  defp fold(bytes, offset, damaged, acc, fun) do
    with :error <- record(bytes, offset),
         :error <- mend(bytes, offset) do
      case next(bytes, offset) do
        {:ok, next} -> fold(bytes, next, [{offset, next - offset} | damaged], acc, fun)
        :torn -> {acc, report(offset, byte_size(bytes) - offset, damaged)}
        :damaged -> {acc, report(offset, 0, [{offset, byte_size(bytes) - offset} | damaged])}
      end
    else
      {:ok, term, next} -> fold(bytes, next, damaged, fun.(term, acc), fun)
    end
  end

  defp report(sound, torn, damaged) do
    %{sound: sound, torn: torn, damaged: Enum.reverse(damaged)}
  end

  defp record(bytes, offset) do
    with <<_::binary-size(offset), size::32, crc::32, rest::binary>>
         when size in 1..@max_record <- bytes,
         <<record::binary-size(size), _::binary>> <- rest,
         true <- term?(record) and :erlang.crc32(record) == crc,
         {:ok, term, _used} <- decode(record) do
      {:ok, term, offset + @header + size}
    else
      _damaged -> :error
    end
  end

  defp mend(bytes, offset) do
    with <<_::binary-size(offset), _size::32, crc::32, rest::binary>> <- bytes,
         true <- term?(rest),
         {:ok, term, used} <- decode(rest),
         true <- :erlang.crc32(binary_part(rest, 0, used)) == crc do
      {:ok, term, offset + @header + used}
    else
      _damaged -> :error
    end
  end

  defp decode(bytes) do
    {term, used} = :erlang.binary_to_term(bytes, [:used])
    {:ok, term, used}
  rescue
    ArgumentError -> :error
  end

  defp term?(<<@version, @tuple, _::binary>>), do: true
  defp term?(<<@version, tag, _::binary>>) when tag in @atoms, do: true
  defp term?(_other), do: false

  # Where to go on behind a damaged record.
  defp next(bytes, offset) do
    case bytes do
      <<_::binary-size(offset), size::32, _crc::32, rest::binary>> ->
        behind(bytes, offset, offset + @header + size, rest)

      _not_even_a_header ->
        :torn
    end
  end

  defp behind(bytes, offset, claimed, rest) do
    cond do
      claimed == byte_size(bytes) and rest != "" -> :damaged
      claimed < byte_size(bytes) and record(bytes, claimed) != :error -> {:ok, claimed}
      claimed > byte_size(bytes) and half?(claimed - offset, rest) -> :torn
      true -> search(bytes, offset, offset + 1 + @header)
    end
  end

  # The texts of a client are in there: they must not be searched for records.
  defp half?(size, rest) do
    size <= @max_record + @header and (term?(rest) or byte_size(rest) < @shortest)
  end

  # `at` is where the term of the next candidate may begin.
  defp search(bytes, offset, at) do
    with left when left > 0 <- byte_size(bytes) - at,
         {found, 1} <- :binary.match(bytes, <<@version>>, scope: {at, left}) do
      if record(bytes, found - @header) == :error,
        do: search(bytes, offset, found + 1),
        else: {:ok, found - @header}
    else
      _nothing_more -> if zeros?(bytes, offset), do: :torn, else: :damaged
    end
  end

  # What a power cut leaves where a file was grown and not yet filled.
  defp zeros?(bytes, offset) do
    rest = binary_part(bytes, offset, byte_size(bytes) - offset)
    rest == :binary.copy(<<0>>, byte_size(rest))
  end
end
