/* The least that a health check can do: connect, log in without a password, SELECT 1, goodbye.

   floor SOCKET USER [COUNT]    COUNT: open so many sessions instead, and keep them until the end of
                                standard input */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static unsigned char packet[4096];

/* Packets of the client/server protocol: three bytes of length, one of sequence, then the payload. */
static int receive(int fd)
{
    ssize_t got = read(fd, packet, sizeof packet);
    return got > 4 && packet[4] != 0xff;
}

static int log_in(const char *path, const char *user)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    /* LONG_PASSWORD, PROTOCOL_41, SECURE_CONNECTION; 16 MiB packets; utf8; 23 bytes of nothing. */
    unsigned char login[160] = {0, 0, 0, 1, 0x01, 0x82, 0, 0, 0, 0, 0, 1, 33};
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    if (strlen(path) >= sizeof address.sun_path || strlen(user) > 80)
        return -1;
    strcpy(address.sun_path, path);
    if (connect(fd, (struct sockaddr *)&address, sizeof address) || !receive(fd))
        return -1;
    login[0] = 32 + strlen(user) + 2;
    strcpy((char *)login + 36, user);
    if (write(fd, login, login[0] + 4) < 0 || !receive(fd) || packet[4] != 0)
        return -1;
    return fd;
}

int main(int argc, char **argv)
{
    static const unsigned char question[] = "\x09\0\0\0\x03SELECT 1", goodbye[] = "\x01\0\0\0\x01";
    int fd = argc < 3 ? -1 : log_in(argv[1], argv[2]);
    if (fd < 0)
        return 1;
    if (argc > 3) {
        for (int more = atoi(argv[3]) - 1; more > 0; more--)
            if (log_in(argv[1], argv[2]) < 0)
                return 1;
        puts("ok");
        fflush(stdout);
        while (read(0, packet, sizeof packet) > 0)
            ;
        return 0;
    }
    if (write(fd, question, sizeof question - 1) < 0 || !receive(fd))
        return 1;
    if (write(fd, goodbye, sizeof goodbye - 1) < 0)
        return 1;
    puts("ok");
    return 0;
}
