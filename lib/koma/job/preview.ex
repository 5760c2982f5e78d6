defmodule Koma.Job.Preview do
  @moduledoc """
  The latest picture of what a running job's result looks like; droppable.

  What clients get of it is JSON. Where several follow, `texts` holds it, made once for all of
  them; a single one has only that made which it asked for.
  """

  alias Koma.JSON

  # A reader this far behind would see old previews; a newer one will come.
  @long_mailbox 32

  @enforce_keys [:step, :total, :media_type, :width, :height, :data]
  defstruct [:step, :total, :media_type, :width, :height, :data, :texts]

  @type t :: %__MODULE__{
          step: non_neg_integer,
          total: non_neg_integer,
          media_type: String.t(),
          width: non_neg_integer,
          height: non_neg_integer,
          data: binary,
          texts: {subject, header :: binary, payload :: binary} | nil
        }
  @typedoc "The id of the job or pipeline that it is told of, and further fields of the header."
  @type subject :: {id :: String.t(), extra :: map}

  @doc "Who of the followers of `subject` keeps up, and the preview as it is told them."
  @spec for_all(t, [pid], subject) :: {t, [pid]}
  def for_all(%__MODULE__{} = preview, followers, subject) do
    case Enum.filter(followers, &keeps_up?/1) do
      [_, _ | _] = several -> {encode(preview, subject), several}
      one_or_none -> {preview, one_or_none}
    end
  end

  defp keeps_up?(pid) do
    case Process.info(pid, :message_queue_len) do
      {:message_queue_len, length} -> length < @long_mailbox
      nil -> false
    end
  end

  defp encode(%__MODULE__{data: data} = preview, subject) do
    header = make_header(preview, subject)
    %{preview | texts: {subject, header, make_payload(header, data)}}
  end

  @doc "All but the bytes, as JSON text."
  @spec header(t, subject) :: binary
  def header(%__MODULE__{texts: {subject, header, _payload}}, subject), do: header
  def header(preview, subject), do: make_header(preview, subject)

  @doc "The header and, in base64 as `data`, the bytes, as JSON text."
  @spec payload(t, subject) :: binary
  def payload(%__MODULE__{texts: {subject, _header, payload}}, subject), do: payload
  def payload(preview, subject), do: preview |> make_header(subject) |> make_payload(preview.data)

  defp make_header(preview, {id, extra}) do
    extra
    |> Map.merge(%{
      "id" => id,
      "step" => preview.step,
      "total" => preview.total,
      "media_type" => preview.media_type,
      "width" => preview.width,
      "height" => preview.height
    })
    |> JSON.encode!()
  end

  # The bytes are put into the JSON text as they are: base64 needs no escapes, and a JSON
  # encoder would look at each of them.
  defp make_payload(<<"{", fields::binary>>, data) do
    IO.iodata_to_binary([~s({"data":"), Base.encode64(data), ~s(",), fields])
  end
end
