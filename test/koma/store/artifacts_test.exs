defmodule Koma.Store.ArtifactsTest do
  use Koma.CoreCase, async: false

  alias Koma.Store.Artifacts

  setup %{dir: dir} = context do
    start_core(dir, [models: []] ++ Map.get(context, :options, []))
    {:ok, path: Path.join(dir, "artifact")}
  end

  test "bytes are found again under their digest, however they were cut" do
    {:ok, writer} = Artifacts.open("text/plain")

    writer =
      Enum.reduce(["ab", "", ["c", ~c"d"]], writer, fn part, writer ->
        elem(Artifacts.write(writer, part), 1)
      end)

    assert {:ok, artifact, :created} = Artifacts.commit(writer, sha256("abcd"))

    assert artifact == %{
             id: sha256("abcd"),
             path: artifact.path,
             media_type: "text/plain",
             bytes: 4
           }

    assert File.read!(artifact.path) == "abcd"
    assert Artifacts.fetch(artifact.id) == {:ok, artifact}
  end

  test "the same bytes are stored once" do
    assert {:ok, _artifact, :created} = store("same")
    assert {:ok, _artifact, :existed} = store("same")
  end

  test "an empty artifact is one" do
    assert {:ok, %{bytes: 0}, :created} = store("")
  end

  test "a digest that does not fit leaves nothing behind", %{dir: dir} do
    {:ok, writer} = Artifacts.open("text/plain")
    {:ok, writer} = Artifacts.write(writer, "abcd")
    assert {:error, %{code: "digest_mismatch"}} = Artifacts.commit(writer, sha256("other"))
    assert files(dir) == []
  end

  test "an aborted upload, and one whose process died, leave nothing behind", %{dir: dir} do
    {:ok, writer} = Artifacts.open("text/plain")
    {:ok, writer} = Artifacts.write(writer, "abcd")
    assert Artifacts.abort(writer) == :ok

    {pid, ref} =
      spawn_monitor(fn ->
        {:ok, writer} = Artifacts.open("text/plain")
        {:ok, _writer} = Artifacts.write(writer, "abcd")
      end)

    assert_receive {:DOWN, ^ref, :process, ^pid, :normal}
    eventually(fn -> files(dir) == [] end)
  end

  @tag options: [max_upload_bytes: 10]
  test "the limit passes, one byte more does not" do
    assert {:ok, _artifact, :created} = store(String.duplicate("x", 10))
    {:ok, writer} = Artifacts.open("text/plain")

    assert {:error, %{code: "too_large", bound: 10}} =
             Artifacts.write(writer, String.duplicate("x", 11))

    Artifacts.abort(writer)
  end

  test "what the bytes are decides over what they are called" do
    for {bytes, type} <- [
          {<<0x89, "PNG\r\n", 0x1A, "\n", 1>>, "image/png"},
          {<<0xFF, 0xD8, 0xFF, 0xE0>>, "image/jpeg"},
          {"GIF89a...", "image/gif"},
          {"RIFF....WEBPVP8 ", "image/webp"},
          {<<0, 0, 0, 24, "ftypisom">>, "video/mp4"},
          {<<0, 0, 0, 24, "ftypqt  ">>, "video/quicktime"},
          {<<0x1A, 0x45, 0xDF, 0xA3, 0x9F, 0x42, 0x82, 0x84, "webm">>, "video/webm"},
          {"plain", "application/x-told"}
        ] do
      assert {:ok, %{media_type: ^type}, :created} = store(bytes, "application/x-told")
    end
  end

  test "a finished file is moved in, if its digest fits", %{path: path} do
    File.write!(path, "result")
    assert {:error, %{code: "digest_mismatch"}} = Artifacts.adopt(path, "text/plain", sha256("x"))
    assert File.exists?(path)

    assert {:ok, %{bytes: 6, media_type: "text/plain"}} =
             Artifacts.adopt(path, "text/plain", sha256("result"))

    refute File.exists?(path)

    assert {:error, %{code: "model_failed"}} =
             Artifacts.adopt(path, "text/plain", sha256("result"))
  end

  test "a file of any size is moved in whole, and the same bytes twice are one artifact", %{
    path: path
  } do
    for size <- [0, 1, 262_143, 262_144, 262_145, 524_288, 600_000] do
      bytes = :crypto.strong_rand_bytes(size)

      for _ <- 1..2 do
        File.write!(path, bytes)
        assert {:ok, artifact} = Artifacts.adopt(path, "text/plain", sha256(bytes))
        assert artifact.bytes == size
        assert File.read!(artifact.path) == bytes
        refute File.exists?(path)
      end
    end
  end

  test "a media type is noted where the bytes do not tell it, and found either way", %{path: path} do
    png = <<0x89, "PNG\r\n", 0x1A, "\n", "image">>

    for {bytes, media_type, noted?} <- [
          {png, "image/png", false},
          {png <> "!", "application/x-other", true},
          {"text", "text/plain", true}
        ] do
      File.write!(path, bytes)
      {:ok, artifact} = Artifacts.adopt(path, media_type, sha256(bytes))
      assert artifact.media_type == media_type
      assert Artifacts.fetch(artifact.id) == {:ok, artifact}
      assert File.exists?(artifact.path <> ".type") == noted?
    end
  end

  test "only digests are ids: no path leaves the store" do
    for id <- [
          "../../etc/passwd",
          "",
          "ab/cd",
          String.duplicate("g", 64),
          String.duplicate("A", 64),
          nil,
          7
        ] do
      assert {:error, %{code: "artifact_not_found"}} = Artifacts.fetch(id)
    end
  end

  test "ten writers of the same bytes at once end with one whole artifact" do
    results =
      1..10 |> Enum.map(fn _ -> Task.async(fn -> store("raced") end) end) |> Task.await_many()

    assert Enum.all?(results, &match?({:ok, %{bytes: 5, media_type: "text/plain"}, _}, &1))
  end

  defp store(bytes, type \\ "text/plain") do
    {:ok, writer} = Artifacts.open(type)
    {:ok, writer} = Artifacts.write(writer, bytes)
    Artifacts.commit(writer, nil)
  end

  defp files(dir) do
    for path <- Path.wildcard(Path.join(dir, "{tmp,artifacts}/**")), File.regular?(path), do: path
  end

  defp sha256(bytes), do: :crypto.hash(:sha256, bytes) |> Base.encode16(case: :lower)
end
